"""Franka Kitchen: a robot arm among things to open, turn and move (Gupta et al. 2019)."""
