"""From a model of another framework to a .zsk container; numpy only, outside frontends/."""
