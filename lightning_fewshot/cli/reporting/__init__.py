"""What ``report`` is made of: the tables, the plots, the pictures and the page."""
