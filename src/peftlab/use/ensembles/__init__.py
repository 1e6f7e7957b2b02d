"""Several finished runs as one model: their answers averaged, or their weights merged."""
