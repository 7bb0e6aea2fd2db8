# The few commands that people repeat.
PYTHON ?= python
DEMO_DATA ?= data/demo-train
DEMO_RUN ?= runs/demo

.PHONY: test lint demo

test:
	$(PYTHON) -m pytest

lint:
	ruff check .
	ruff format --check .
	mypy preprocess console recordings model quantize export benchmarks

# The checkpoint that ships: about an hour on two cores.
demo:
	$(PYTHON) -m recordings synthesize --out $(DEMO_DATA) --count 4800 --seed 1
	$(PYTHON) -m model train --data $(DEMO_DATA) --out $(DEMO_RUN) --preset nano --audio-norm batch --protocol all --seed 1 \
		--set visual.schedule=cosine --set visual.epochs=16 --set visual.learning_rate=2e-3 --set visual.early_stopping=0 \
		--set audio.batch_size=32 --set audio.epochs=10 --set audio.learning_rate=2e-3 \
		--set audio_augmentation.pitch_semitones=0 --set audio_augmentation.stretch=0 \
		--set audio_augmentation.frequency_mask_bands=8 --set audio_augmentation.time_mask_frames=16 \
		--set fusion.batch_size=32 --set fusion.epochs=5 --set fusion.learning_rate=1e-3 --set fusion.modality_dropout=0.1
	cp $(DEMO_RUN)/checkpoint.npz model/demo/nano.npz
