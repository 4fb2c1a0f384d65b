"""Samples, splits and augmentation.

sample: images with masks, and their splits
sample_table: very many samples, in a memory-mapped file
splits: splitting into training, validation and test without leaks
split_files: split files and group files
image_io: pixels from files, and reasons why a file cannot be read
mask_classes: masks of several classes
file_names: names of files in messages, and names that are not UTF-8
part_names: names of the parts of a split
empty_regions: regions of images without any object
erase: images whose objects are covered by other parts of them
file_index: facts of files that have not changed
scan: reading every file once
read_ahead: pixels of samples, read in advance
augment: views, crops and colours of a training image
camera: changes that another camera or hospital makes to an image
teacher_dropout: the teachers that an image keeps
prompts: prompts of a teacher, and the keys of its records
"""
