"""Does a technique move the number it exists for? Several seeds, paired, on public data that lies outside."""
