"""Where do metrics go? One file per logger, imported with the package that it needs only where it is chosen.

Any Lightning logger works. It may also have ``begin(record)``, called before anything is logged,
``log_table(key, columns, data)``, called with the tables of each evaluation, and ``conclude(record)``, called once the
record is finished, whatever the outcome; its result is shown to the user. The class method ``refuse(options)`` is
called before the run exists: it returns the option that cannot be used, with the reason, or None.
"""
