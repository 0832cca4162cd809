"""zeroskip: sparse neural networks on microcontrollers, computed on the compressed weights.

Public names are loaded on first use, so that `import zeroskip` stays fast and never imports
torch or a TFLite package.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from zeroskip.conversion import convert as convert
    from zeroskip.errors import ZeroSkipError as ZeroSkipError
    from zeroskip.runtime import Model as Model

_PUBLIC = {
    "Model": "zeroskip.runtime",
    "ZeroSkipError": "zeroskip.errors",
    "convert": "zeroskip.conversion",
}

__all__ = ["Model", "ZeroSkipError", "convert"]


def __getattr__(name: str) -> Any:
    if name in _PUBLIC:
        return getattr(import_module(_PUBLIC[name]), name)
    raise AttributeError(f"module 'zeroskip' has no attribute '{name}'")
