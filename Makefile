# The few commands that people repeat. Constants of training are in recipes/.
PYTHON ?= python
DEMO_DATA ?= data/demo-train
DEMO_RUN ?= runs/demo
PAPER_RUN ?= runs/paper
RESULTS = benchmarks/results
TRAIN_DEMO = $(PYTHON) -m model train --data $(DEMO_DATA) --preset nano --protocol all --seed 1 --resume --settings recipes/demo.toml
TRAIN_PAPER = $(PYTHON) -m model train --preset paper --audio-norm batch --layer-scale 0.1 --protocol all --seed 1 --resume

.PHONY: test lint gate demo demo-layer demo-qat demo-depths pruning paper-study tables paper-tables npu-tables

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
	$(PYTHON) -m quantize check --float artifacts/gate-float --int8 artifacts/gate-int8 --baseline $(RESULTS)/gate-baseline.json

$(DEMO_DATA):
	$(PYTHON) -m recordings synthesize --out $@ --count 4800 --seed 1

# The checkpoint that ships: about an hour on two cores.
demo: $(DEMO_DATA)
	$(TRAIN_DEMO) --out $(DEMO_RUN) --audio-norm batch
	cp $(DEMO_RUN)/checkpoint.npz model/demo/nano.npz

# The same with layer norm in ConvNeXt; the visual stream comes from the demo.
demo-layer: $(DEMO_DATA)
	$(TRAIN_DEMO) --out $(DEMO_RUN)-layer --init model/demo/nano.npz --set visual.epochs=1 --set visual.learning_rate=1e-5
	$(PYTHON) -m benchmarks accuracy --checkpoint $(DEMO_RUN)-layer/checkpoint.npz --out $(RESULTS)/demo-layer.json

# That checkpoint trained with the rounding of INT8: ten minutes, seven of them to measure it.
demo-qat: $(DEMO_DATA)
	$(PYTHON) -m quantize qat --checkpoint $(DEMO_RUN)-layer/checkpoint.npz --data $(DEMO_DATA) --protocol all --seed 1 \
		--out $(DEMO_RUN)-qat --resume --settings recipes/demo-qat.toml
	$(PYTHON) -m benchmarks accuracy --checkpoint $(DEMO_RUN)-qat/checkpoint.npz --out $(RESULTS)/demo-layer-qat.json

# ResNet-18 and -34 as the visual stream, as in the paper's Table 2; sound and fusion are hardly trained.
demo-depths: $(DEMO_DATA)
	for depth in 18 34; do \
		$(TRAIN_DEMO) --out $(DEMO_RUN)-resnet$$depth --visual-depth $$depth --audio-norm batch --init model/demo/nano.npz \
			--set audio.epochs=1 --set audio.learning_rate=1e-5 --set fusion.epochs=1 && \
		$(PYTHON) -m export tflite --stream visual --checkpoint $(DEMO_RUN)-resnet$$depth/checkpoint.npz --force \
			--out runs/table2/resnet$$depth || exit 1; \
	done

# The demo's curve of accuracy against cost: three quarters of an hour.
pruning: $(DEMO_DATA)
	$(PYTHON) -m benchmarks pruning --data $(DEMO_DATA) --shares 0.5 0.35 0.25 0.2 --multiple 1 --seed 1 \
		--settings recipes/demo-pruning.toml

# The paper preset, trained (small inputs first), quantized and pruned. Two hours on two cores with AVX-512, by oneDNN's
# kernels; only the measurements are committed.
paper-study: export TF_ENABLE_ONEDNN_OPTS = 1
paper-study:
	$(PYTHON) -m recordings synthesize --out data/paper-small --count 3000 --seed 2
	$(PYTHON) -m recordings synthesize --out data/paper-full --count 1200 --seed 3
	$(TRAIN_PAPER) --data data/paper-small --out $(PAPER_RUN)-small --inputs nano --settings recipes/paper-small.toml
	$(TRAIN_PAPER) --data data/paper-full --out $(PAPER_RUN) --init $(PAPER_RUN)-small/checkpoint.npz --settings recipes/paper.toml
	$(PYTHON) -m benchmarks accuracy --checkpoint $(PAPER_RUN)/checkpoint.npz --recordings 400 --calibration 32 --analyzed 4 \
		--out $(RESULTS)/paper.json
	$(PYTHON) -m benchmarks pruning --data data/paper-full --checkpoint $(PAPER_RUN)/checkpoint.npz --shares 0.5 0.25 --seed 1 \
		--also parameters time --recordings 400 --calibration 32 --settings recipes/paper-pruning.toml \
		--folder runs/pruning-paper --out $(RESULTS)/pruning-paper.json

# The paper's tables and figures for the demo (after `make demo-depths`), then for the paper preset (after
# `make paper-study`); on a machine without other work.
TABLE1 = runs/table1
tables:
	$(PYTHON) -m benchmarks table1 --recordings 500 --out $(RESULTS)/table1.json
	$(PYTHON) -m benchmarks table2 resnet18=runs/table2/resnet18 resnet34=runs/table2/resnet34 \
		resnet50=$(TABLE1)/visual-float32 convnext=$(TABLE1)/audio-float32 \
		fused=$(TABLE1)/fused-float32 INT8=$(TABLE1)/fused-INT8 pruned=$(TABLE1)/fused-pruned-INT8 --recordings 2000
	$(PYTHON) -m benchmarks ablation INT8=$(TABLE1)/fused-INT8
	$(PYTHON) -m benchmarks robustness float=$(TABLE1)/fused-float32 INT8=$(TABLE1)/fused-INT8 \
		pruned=$(TABLE1)/fused-pruned-INT8 --recordings 300
	$(PYTHON) -m benchmarks peers

paper-tables:
	$(PYTHON) -m benchmarks table1 --checkpoint $(PAPER_RUN)/checkpoint.npz --calibration 32 --recordings 400 \
		--pruned runs/pruning-paper/0.5/run/checkpoint.npz --folder runs/table1-paper --out $(RESULTS)/table1-paper.json

# Placement and arithmetic on Snapdragon's NPU, for the demo and for the paper preset; no phone, no times.
npu-tables:
	$(PYTHON) -m benchmarks npu --qairt onnxruntime-qnn
	$(PYTHON) -m benchmarks npu --checkpoint $(PAPER_RUN)/checkpoint.npz --recipe static_wi8_ai8 \
		--recipe 'static_wi8_ai8+ai16(audio/*,fusion/*)' --calibration 32 --recordings 16 \
		--qairt onnxruntime-qnn --out $(RESULTS)/npu-paper.json
