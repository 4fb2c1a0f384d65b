"""Scoring test sets: the verb `evaluate`.

evaluate: the verb, from its plan to the run's metrics
scoring: predictors, and the scores of their probabilities against masks
scored: the scores of a data set's images, in mapped files
mask_teachers: scores of mask teachers beside the student, and their agreement
soft_masks: a mask teacher's probability of an image
task_decoder: a task teacher's decoder as a predictor
cost: parameters and multiply-accumulates
results: predictions.csv and metrics.json
predictions_csv: the lines of predictions.csv
folder_pairs: a folder of predictions and one of masks, for `evaluate predictions=`
folder_scores: the scores of such a folder
"""
