"""Generated colonoscopy-like frames with exact masks; `generator.render` is all that others use.

generator: a frame and its mask from a seed and a number
draw: the random choices of a frame
scene: the dataclasses that hold them
surface: depth along every ray, and the polyp that it meets
light: tissue colours, lamp and highlights
texture: periodic patterns of the surface
camera: field of view, blur, noise and compression
"""
