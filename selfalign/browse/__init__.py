"""A local web page over a run's store: read prompts, answers, judgements and pairs, and say what you think of a pair.

Pages are made on the server with real links, so that reading needs no JavaScript. The store is opened for reading, for
a moment a request; what people say goes into the inbox of ``selfalign/reviews.py``. Nothing below the command line
imports this package.

access.py    who may ask: host names, origins, the token, what a page may load
filters.py   a query string as typed filters, and back
queries.py   filters -> typed rows (rows.py)
diff.py      two answers, word by word
app.py       routes; server.py binds the port
"""
