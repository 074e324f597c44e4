"""The builder of `coco2014`: see README.md."""
