"""What a predicted mask is worth: every figure of the field for one image, and for a set of images."""
