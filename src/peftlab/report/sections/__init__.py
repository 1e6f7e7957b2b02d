"""The sections of a report, one module each: from the analysis to paragraphs, tables and figures."""
