"""The kinds of figures of a report, one module each: `Data` says the JSON values that it shows, `draw` draws them.

A figure names its kind by the module's name. The modules load matplotlib: `peftlab.report.drawing` imports them when it
draws.
"""
