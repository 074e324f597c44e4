"""Input pipelines: crops and augmentation, virtual cameras, grain over TFDS."""
