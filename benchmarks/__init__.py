"""flowjax beside a hand-written `lax.scan` and its peers; see README.md."""
