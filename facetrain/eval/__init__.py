"""How good faces are: matching, curves, AP, details, intervals, differences."""
