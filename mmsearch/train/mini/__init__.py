"""The trainer of the built-in space ``mini``: public towers in, ONNX files out.

Run ``python -m mmsearch.train.mini --help``. Rooms: ``data`` (what is read, and
where it comes from), ``towers`` (the pretrained networks), ``features`` (their
frozen outputs, cached), ``heads`` and ``text`` (what is trained), ``export``.
"""
