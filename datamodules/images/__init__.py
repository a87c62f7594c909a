"""Reading and augmenting images, finding data sets, catalogues and samplers of photos."""
