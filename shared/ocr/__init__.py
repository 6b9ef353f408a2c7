"""Optical character recognition: the lines of text in a picture, by the two PP-OCRv6 networks of the package rapidocr.

A detector finds the lines, and a recogniser reads each of them. Only the weights of rapidocr are used: its code needs
OpenCV, Shapely and Clipper for steps that are a few lines of NumPy here.
"""
