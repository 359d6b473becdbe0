"""Documents out of files, folders and data sets, whatever they hold."""
