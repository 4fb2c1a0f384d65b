"""Dice to calibration: figures of one image and of a data set."""
