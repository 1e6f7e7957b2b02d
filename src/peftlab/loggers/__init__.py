"""Where metrics are shown, one file a logger; the package that a logger needs is imported with it and only then.

A Lightning logger works as it is. It may have more: ``begin(record)`` is called before anything is logged,
``log_table(key, columns, data)`` with the tables of each evaluation, and ``conclude(record)`` when the record has been
finished, whatever the outcome. What `conclude` returns is told to the user. The class method ``refuse(options)`` is
asked before there is a run: it returns the option that cannot be used, and why, or None.
"""
