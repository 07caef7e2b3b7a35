"""Detectors of any family side by side: cost, speed, AP, and what they find."""
