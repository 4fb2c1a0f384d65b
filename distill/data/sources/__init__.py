"""Opening data sets.

open_data: opening a data set with its unlabelled images
builtin: generated frames
folder: folders of images and masks, opened and split
data_sets: finding them in a folder, and choosing among them
folder_names: names of such folders, and of masks after their images
listing: the files of a folder, and pairs of image and mask
pairs: from pairs to samples, once both files were read
known: the public data sets of polyp segmentation
known_layouts: finding them wherever they were unpacked
hf_datasets: what the `datasets` library loads
unlabelled: images without masks
"""
