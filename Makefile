# The few commands that people repeat.
PYTHON ?= python
DEMO_DATA ?= data/demo-train
DEMO_RUN ?= runs/demo

.PHONY: test lint gate demo demo-layer paper-study

test:
	$(PYTHON) -m pytest

lint:
	ruff check .
	ruff format --check .
	mypy preprocess console recordings model runtime quantize export benchmarks android_bench

# The accuracy gate on the demo: its INT8 file against its float file and against the answers of an earlier commit.
gate:
	$(PYTHON) -m export tflite --recordings 100 --force --out artifacts/gate-float > /dev/null
	$(PYTHON) -m export tflite --int8 --recordings 100 --force --out artifacts/gate-int8 > /dev/null
	$(PYTHON) -m quantize check --float artifacts/gate-float --int8 artifacts/gate-int8 \
		--baseline benchmarks/results/gate-baseline.json

# The checkpoint that ships: about an hour on two cores.
DEMO = --data $(DEMO_DATA) --preset nano --protocol all --seed 1 --resume \
	--set visual.schedule=cosine --set visual.early_stopping=0 \
	--set audio.batch_size=32 --set audio.epochs=10 --set audio.learning_rate=2e-3 \
	--set audio_augmentation.pitch_semitones=0 --set audio_augmentation.stretch=0 \
	--set audio_augmentation.frequency_mask_bands=8 --set audio_augmentation.time_mask_frames=16 \
	--set fusion.batch_size=32 --set fusion.epochs=5 --set fusion.learning_rate=1e-3 --set fusion.modality_dropout=0.1
demo: $(DEMO_DATA)
	$(PYTHON) -m model train --out $(DEMO_RUN) $(DEMO) --audio-norm batch --set visual.epochs=16 --set visual.learning_rate=2e-3
	cp $(DEMO_RUN)/checkpoint.npz model/demo/nano.npz

# The same with layer norm in ConvNeXt, to compare: the visual stream is the demo's.
demo-layer: $(DEMO_DATA)
	$(PYTHON) -m model train --out $(DEMO_RUN)-layer $(DEMO) --audio-norm layer --init model/demo/nano.npz \
		--set visual.epochs=1 --set visual.learning_rate=1e-5
	$(PYTHON) -m benchmarks.accuracy --checkpoint $(DEMO_RUN)-layer/checkpoint.npz --out benchmarks/results/demo-layer.json

$(DEMO_DATA):
	$(PYTHON) -m recordings synthesize --out $@ --count 4800 --seed 1

# The paper preset with trained weights, to quantize: small inputs first, then a little at full size. An hour and a half on
# two cores without oneDNN's kernels, half of that with them; nothing of it is committed but the measurement.
PAPER_RUN ?= runs/paper
PAPER = --preset paper --audio-norm batch --layer-scale 0.1 --protocol all --seed 1 --set visual.schedule=cosine \
	--set visual.early_stopping=0 --set audio.batch_size=32 --set audio_augmentation.pitch_semitones=0 \
	--set audio_augmentation.stretch=0 --set fusion.batch_size=32 --set fusion.modality_dropout=0.1 --resume
paper-study: export TF_ENABLE_ONEDNN_OPTS = 1
paper-study:
	$(PYTHON) -m recordings synthesize --out data/paper-small --count 3000 --seed 2
	$(PYTHON) -m recordings synthesize --out data/paper-full --count 800 --seed 3
	$(PYTHON) -m model train --data data/paper-small --out $(PAPER_RUN)-small $(PAPER) --inputs nano \
		--set visual.epochs=6 --set visual.learning_rate=1e-3 --set audio.epochs=5 --set audio.learning_rate=1e-3 \
		--set fusion.epochs=1 --set fusion.learning_rate=1e-3 \
		--set audio_augmentation.frequency_mask_bands=8 --set audio_augmentation.time_mask_frames=16
	$(PYTHON) -m model train --data data/paper-full --out $(PAPER_RUN) $(PAPER) --init $(PAPER_RUN)-small/checkpoint.npz \
		--set visual.epochs=1 --set visual.learning_rate=3e-4 --set audio.epochs=1 --set audio.learning_rate=3e-4 \
		--set fusion.epochs=2 --set fusion.learning_rate=1e-3
	$(PYTHON) -m benchmarks.accuracy --checkpoint $(PAPER_RUN)/checkpoint.npz --recordings 200 --calibration 32 \
		--analyzed 4 --out benchmarks/results/paper.json
