"""Scoring test sets: the verb `evaluate`.

evaluate: the verb, from its plan to the run's metrics
scoring: predictors, and their probabilities against masks
scored: the figures of a data set's images, in mapped files
mask_teachers: teachers of masks beside the student, and their agreement
soft_masks: a mask teacher's probability of an image
task_decoder: a task teacher's decoder as a predictor
cost: parameters and multiply-accumulates
results: predictions.csv and metrics.json
predictions_csv: the lines of predictions.csv
folder_pairs: a folder of predictions and one of masks, for `evaluate predictions=`
folder_scores: the scores of such folders
"""
