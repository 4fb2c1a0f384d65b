"""Metrics of one image and of a data set, from Dice to calibration.

overlap: Dice, IoU, sensitivity, specificity and precision of one image
bootstrap: 95 % intervals of means over images, by sequence or patient if known
confusion: several classes over all pixels of a set
per_image: all figures of one image
threshold_sweep: PraNet's protocol: figures at 256 thresholds
saliency: mean absolute error, weighted F-measure and S-measure
surface: distances between contours, surface Dice, boundary IoU
calibration: expected calibration error
image_score: the Dice to expect of a mask by its probability, and how well it finds masks that failed
score_table: the scores of very many images, in mapped files
class_table: the same for several classes
aggregate: from images to a data set, by size, by class, on empty masks
names: title and convention of each figure
table: figures as aligned lines
"""
