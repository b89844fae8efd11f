"""Effects: does a technique move the number it exists for, over how many seeds, and how surely?"""
