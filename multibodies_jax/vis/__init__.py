"""Pictures without OpenGL: bodies drawn in software, the figures of the paper."""
