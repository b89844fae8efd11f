"""Pages on this computer, for this computer alone."""
