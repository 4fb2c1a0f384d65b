"""Samples, splits and augmentation.

sample: images with masks, and the parts that they are split into
sample_table: very many samples, in a mapped file
splits: cutting training, validation and test without leaks
split_files: split files and group files
image_io: pixels from files, and why a file cannot be read
mask_classes: masks of several classes
file_names: names that are not UTF-8
part_names: names of the parts of a split
empty_regions: parts of images in which nothing is to be found
file_index: the facts of files that have not changed
scan: reading every file once
read_ahead: pixels of samples, read before their turn
augment: views, crops and colours of a training image
camera: what another camera and another hospital change in an image
teacher_dropout: which teachers an image has
prompts: prompts of a teacher, and the keys of its records
"""
