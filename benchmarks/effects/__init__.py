"""Effects of single techniques: each moves the number it exists for, over several seeds, paired by seed."""
