"""No secret leaves the process: what secrets look like, as data, and the door for all that is printed or written."""
