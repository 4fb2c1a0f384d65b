"""Samples, splits, augmentation."""
