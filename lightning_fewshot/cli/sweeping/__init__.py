"""What ``sweep`` is made of: the file, the parameters, the commands, the study and the jobs."""
