"""The trainer of the built-in space ``mini``: public towers in, ONNX files out.

Run ``python -m mmsearch.train.mini --help``. What is read: ``data``, ``drawings``,
``sound_effects``; what is kept out of it: ``split``. The pretrained networks: ``towers``,
``use``, ``sound_towers``; their cached outputs: ``features``, ``sound_features``. What is
trained: ``pictures`` (heads over frozen towers), ``tune`` (the picture tower's end),
``sounds``. What is written: ``export``, ``export_audio``, ``vocabulary``, ``card``.
"""
