"""The schema of a recipe, and reading one.

schema: `Recipe`, and what must hold between its parts
schema_inputs: its parts for data, teachers and cache
schema_training: its parts for student, stages, optimiser, evaluation and publishing
field: how a key is declared, and how its range is
registry: the names that a recipe may use: steps, data sets, loss terms, parts of a student
keys: the keys of a schema with type, default and meaning, and the nearest to one that there is not
renamed: keys that were renamed or removed, each with what to write instead
values: plain data of YAML text, and typed values of plain data
layers: one layer over another, the order of stages, keys that name other keys
files: recipe files, and how one extends another
parse: from `key=value` to a `Recipe`, and a `Recipe` as YAML
teacher_recipes: the recipes that make teachers
command: the command to type next, for messages
schedule: stages laid end to end in steps, and the learning rate of each step
"""
