# The few commands that people repeat. Constants of training are in recipes/.
PYTHON ?= python
DEMO_DATA ?= data/demo-train
DEMO_RUN ?= runs/demo
RESULTS = benchmarks/results
BENCHMARKS = $(PYTHON) -m benchmarks
TRAIN = $(PYTHON) -m model train --protocol all --seed 1 --resume
TRAIN_DEMO = $(TRAIN) --data $(DEMO_DATA) --preset nano --settings recipes/demo.toml
TABLE1 = runs/table1
QUANTIZED = INT8=$(TABLE1)/fused-INT8 pruned=$(TABLE1)/fused-pruned-INT8

.PHONY: test lint gate demo demo-layer demo-qat demo-depths pruning tables npu-tables

test:
	$(PYTHON) -m pytest

lint:
	ruff check . && ruff format --check .
	mypy preprocess console recordings runtime model quantize export benchmarks android_bench pocket_har

# The demo's INT8 file against its float file and against the answers of an earlier commit.
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
	$(BENCHMARKS) accuracy --checkpoint $(DEMO_RUN)-layer/checkpoint.npz --out $(RESULTS)/demo-layer.json

# That checkpoint trained with the rounding of INT8: ten minutes, seven of them to measure it.
demo-qat: $(DEMO_DATA)
	$(PYTHON) -m quantize qat --checkpoint $(DEMO_RUN)-layer/checkpoint.npz --data $(DEMO_DATA) --protocol all --seed 1 \
		--out $(DEMO_RUN)-qat --resume --settings recipes/demo-qat.toml
	$(BENCHMARKS) accuracy --checkpoint $(DEMO_RUN)-qat/checkpoint.npz --out $(RESULTS)/demo-layer-qat.json

# ResNet-18 and -34 as the visual stream, as in the paper's Table 2; sound and fusion are hardly trained.
demo-depths: demo-resnet18 demo-resnet34
demo-resnet%: $(DEMO_DATA)
	$(TRAIN_DEMO) --out $(DEMO_RUN)-resnet$* --visual-depth $* --audio-norm batch --init model/demo/nano.npz \
		--set audio.epochs=1 --set audio.learning_rate=1e-5 --set fusion.epochs=1
	$(PYTHON) -m export tflite --stream visual --checkpoint $(DEMO_RUN)-resnet$*/checkpoint.npz --force --out runs/table2/resnet$*

# The demo's curve of accuracy against cost: three quarters of an hour.
pruning: $(DEMO_DATA)
	$(BENCHMARKS) pruning --data $(DEMO_DATA) --shares 0.5 0.35 0.25 0.2 --multiple 1 --seed 1 --settings recipes/demo-pruning.toml

# The paper's tables and figures for the demo (after `make demo-depths`), on a machine without other work.
tables:
	$(BENCHMARKS) table1 --recordings 500 --out $(RESULTS)/table1.json
	$(BENCHMARKS) table2 resnet18=runs/table2/resnet18 resnet34=runs/table2/resnet34 resnet50=$(TABLE1)/visual-float32 \
		convnext=$(TABLE1)/audio-float32 fused=$(TABLE1)/fused-float32 $(QUANTIZED) --recordings 2000
	$(BENCHMARKS) ablation INT8=$(TABLE1)/fused-INT8
	$(BENCHMARKS) robustness float=$(TABLE1)/fused-float32 $(QUANTIZED) --recordings 300
	$(BENCHMARKS) peers

# Placement and arithmetic on Snapdragon's NPU, for the demo and for the paper preset; no phone, no times.
npu-tables:
	$(BENCHMARKS) npu --qairt onnxruntime-qnn
	$(BENCHMARKS) npu $(OF_PAPER) --recordings 16 --recipe static_wi8_ai8 --recipe 'static_wi8_ai8+ai16(audio/*,fusion/*)' \
		--qairt onnxruntime-qnn --out $(RESULTS)/npu-paper.json

include recipes/paper.mk
