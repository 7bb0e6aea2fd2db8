# The few commands that people repeat.
PYTHON ?= python
DEMO_DATA ?= data/demo-train
DEMO_RUN ?= runs/demo

.PHONY: test lint gate demo demo-layer demo-qat demo-depths paper-study pruning tables paper-tables npu-tables

test:
	$(PYTHON) -m pytest

lint:
	ruff check .
	ruff format --check .
	mypy preprocess console recordings runtime model quantize export benchmarks android_bench pocket_har

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
	$(PYTHON) -m benchmarks accuracy --checkpoint $(DEMO_RUN)-layer/checkpoint.npz --out benchmarks/results/demo-layer.json

# That one with its rounding in the graph of training: ten minutes, of which seven measure.
demo-qat: $(DEMO_DATA)
	$(PYTHON) -m quantize qat --checkpoint $(DEMO_RUN)-layer/checkpoint.npz --data $(DEMO_DATA) --protocol all --seed 1 \
		--out $(DEMO_RUN)-qat --resume --set training.epochs=2 --set training.learning_rate=1e-4 \
		--set audio_augmentation.frequency_mask_bands=8 --set audio_augmentation.time_mask_frames=16
	$(PYTHON) -m benchmarks accuracy --checkpoint $(DEMO_RUN)-qat/checkpoint.npz --out benchmarks/results/demo-layer-qat.json

# ResNet-18 and -34 in the place of its visual stream, as in the paper's Table 2; the rest is hardly trained.
demo-depths: $(DEMO_DATA)
	for depth in 18 34; do \
		$(PYTHON) -m model train --out $(DEMO_RUN)-resnet$$depth $(DEMO) --visual-depth $$depth --audio-norm batch \
			--init model/demo/nano.npz --set visual.epochs=16 --set visual.learning_rate=2e-3 \
			--set audio.epochs=1 --set audio.learning_rate=1e-5 --set fusion.epochs=1 && \
		$(PYTHON) -m export tflite --stream visual --checkpoint $(DEMO_RUN)-resnet$$depth/checkpoint.npz --force \
			--out runs/table2/resnet$$depth || exit 1; \
	done

$(DEMO_DATA):
	$(PYTHON) -m recordings synthesize --out $@ --count 4800 --seed 1

# The paper preset with trained weights, to quantize and to prune: small inputs first, then full size. Two hours on two
# cores with AVX-512, by oneDNN's kernels; nothing of it is committed but the measurements.
PAPER_RUN ?= runs/paper
PAPER = --preset paper --audio-norm batch --layer-scale 0.1 --protocol all --seed 1 --set visual.schedule=cosine \
	--set visual.early_stopping=0 --set audio.batch_size=32 --set audio_augmentation.pitch_semitones=0 \
	--set audio_augmentation.stretch=0 --set fusion.batch_size=32 --set fusion.modality_dropout=0.1 --resume
paper-study: export TF_ENABLE_ONEDNN_OPTS = 1
paper-study:
	$(PYTHON) -m recordings synthesize --out data/paper-small --count 3000 --seed 2
	$(PYTHON) -m recordings synthesize --out data/paper-full --count 1200 --seed 3
	$(PYTHON) -m model train --data data/paper-small --out $(PAPER_RUN)-small $(PAPER) --inputs nano \
		--set visual.epochs=6 --set visual.learning_rate=1e-3 --set audio.epochs=5 --set audio.learning_rate=1e-3 \
		--set fusion.epochs=1 --set fusion.learning_rate=1e-3 \
		--set audio_augmentation.frequency_mask_bands=8 --set audio_augmentation.time_mask_frames=16
	$(PYTHON) -m model train --data data/paper-full --out $(PAPER_RUN) $(PAPER) --init $(PAPER_RUN)-small/checkpoint.npz \
		--set visual.epochs=3 --set visual.learning_rate=5e-4 --set audio.epochs=3 --set audio.learning_rate=5e-4 \
		--set fusion.epochs=2 --set fusion.learning_rate=1e-3
	$(PYTHON) -m benchmarks accuracy --checkpoint $(PAPER_RUN)/checkpoint.npz --recordings 400 --calibration 32 \
		--analyzed 4 --out benchmarks/results/paper.json
	$(PYTHON) -m benchmarks pruning --data data/paper-full --checkpoint $(PAPER_RUN)/checkpoint.npz --shares 0.5 0.25 --seed 1 \
		--also parameters time --recordings 400 --calibration 32 --out benchmarks/results/pruning-paper.json \
		--folder runs/pruning-paper --set training.epochs=3 --set training.batch_size=16 --set training.learning_rate=5e-4

# The demo's curve of accuracy against cost: three quarters of an hour.
pruning: $(DEMO_DATA)
	$(PYTHON) -m benchmarks pruning --data $(DEMO_DATA) --shares 0.5 0.35 0.25 0.2 --multiple 1 --seed 1 \
		--set training.epochs=5 --set training.learning_rate=1e-3 \
		--set audio_augmentation.frequency_mask_bands=8 --set audio_augmentation.time_mask_frames=16

# The paper's tables and figures for the demo (after `make demo-depths`), then for the paper preset of `make paper-study`;
# on a machine left alone.
RESULTS = benchmarks/results
tables:
	$(PYTHON) -m benchmarks table1 --recordings 500 --out $(RESULTS)/table1.json
	$(PYTHON) -m benchmarks table2 resnet18=runs/table2/resnet18 resnet34=runs/table2/resnet34 \
		resnet50=runs/table1/visual-float32 convnext=runs/table1/audio-float32 \
		fused=runs/table1/fused-float32 INT8=runs/table1/fused-INT8 pruned=runs/table1/fused-pruned-INT8 --recordings 2000
	$(PYTHON) -m benchmarks ablation INT8=runs/table1/fused-INT8
	$(PYTHON) -m benchmarks robustness float=runs/table1/fused-float32 INT8=runs/table1/fused-INT8 \
		pruned=runs/table1/fused-pruned-INT8 --recordings 300
	$(PYTHON) -m benchmarks peers

paper-tables:
	$(PYTHON) -m benchmarks table1 --checkpoint $(PAPER_RUN)/checkpoint.npz --calibration 32 --recordings 400 \
		--pruned runs/pruning-paper/0.5/run/checkpoint.npz --folder runs/table1-paper --out $(RESULTS)/table1-paper.json

# Placement and arithmetic on Snapdragon's NPU, for the demo and the paper preset of `make paper-study`; no phone, no times.
npu-tables:
	$(PYTHON) -m benchmarks npu --qairt onnxruntime-qnn
	$(PYTHON) -m benchmarks npu --checkpoint $(PAPER_RUN)/checkpoint.npz --recipe static_wi8_ai8 \
		--recipe 'static_wi8_ai8+ai16(audio/*,fusion/*)' --calibration 32 --recordings 16 \
		--qairt onnxruntime-qnn --out $(RESULTS)/npu-paper.json
