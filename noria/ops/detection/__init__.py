"""Operators of object detection: boxes, priors, suppression, regions, proposals, targets, metrics.

A box is [x1, y1, x2, y2]. Where an op takes `normalized`, true means that coordinates are numbers
on a line, so that a box is x2 - x1 wide, and false that they count pixels, x2 included, so that it
is x2 - x1 + 1 wide. A rotated box is [x, y, width, height, degrees], counter-clockwise.
"""
