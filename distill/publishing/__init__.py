"""The published folder of a student or a task teacher: written, checked, and described by a model card.

adapt: a student with the batch-norm statistics of new images
batch_norm: the statistics of batch norms, estimated anew
card.md.jinja, teacher_card.md: the templates of the cards of a student and of a task teacher
calibrate: a student with thresholds and temperature for a new hospital
card: the model card: what the student is, how good it is, what it was made from, its terms, and its use
derived: a student that is made from a published one without training
examples: the example pictures of a model card
folder: replacing a folder as a whole
gallery: one picture of a run: input, the teacher's features, the student's prediction, the truth
image_scores: how well the image score finds the masks that failed
latency: the time that a network takes for one frame
markdown: text escaped as Markdown
onnx_check: the check that model.onnx is the network that was evaluated
onnx_on_demand: the ONNX file of a student that was published without one
operating_point: the thresholds with which a student is served
plan: everything that must be known before anything is written
provenance: what a student was made from, and the licence that follows
publish: the verb: a plan, then the folder, then the Hub
quantise: model.int8.onnx, kept if it is faster and as accurate
student: the contents of a student's folder
task_teacher: the contents of a task teacher's folder
temperature: the number that divides the logits, so that the probability is calibrated
zoo: a student as it ships with Bandpass
"""
