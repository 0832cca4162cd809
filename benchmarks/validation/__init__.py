"""Other people's programs on the cycle models, built from `ZEROSKIP_VALIDATION`."""
