"""The schema of a recipe, and reading one.

schema: `Recipe`, and the conditions between its parts
schema_inputs: its parts for data, teachers and cache
schema_training: its parts for student, stages, optimiser, evaluation and publishing
field: the declaration of a key and of its range
registry: the names that a recipe may use: steps, data sets, loss terms, parts of a student
keys: the keys of a schema with type, default and meaning, and the nearest key to an unknown one
renamed: keys that were renamed or removed, each with its replacement
values: from YAML text to plain data, and from plain data to typed values
layers: one layer over another, the order of stages, keys that refer to other keys
files: recipe files, which may extend one another
parse: from `key=value` to a `Recipe`, and a `Recipe` as YAML
teacher_recipes: the recipes that make teachers
command: the command to type next, for messages
schedule: stages laid end to end in steps, and the learning rate of each step
"""
