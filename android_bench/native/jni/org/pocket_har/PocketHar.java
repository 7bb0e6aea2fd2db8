package org.pocket_har;

import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.charset.StandardCharsets;

/**
 * Preprocessing of a skeleton and a waveform for the recogniser: the C interface har.h for Java and Kotlin.
 *
 * <p>Tensors are written into direct byte buffers in native order, such as those of a TFLite interpreter's inputs,
 * whose capacity must be the tensor's size in bytes. An object belongs to one thread at a time. Every method throws
 * IllegalArgumentException where the C function does not succeed, with its message.
 */
public final class PocketHar implements AutoCloseable {
    static {
        System.loadLibrary("pocket_har_jni");
    }

    private long handle;

    /** Reads the text of an artifact's manifest.json. */
    public PocketHar(String manifestJson) {
        handle = create(manifestJson.getBytes(StandardCharsets.UTF_8));
    }

    /** {rows, columns, channels, bands, frames, 3, joints, sampleRateHz, audioSamples, skeletonIsInt8, audioIsInt8}. */
    public int[] sizes() {
        return sizes(open());
    }

    /** A buffer for the heatmaps, float32 or, where the model's input is int8, int8. */
    public ByteBuffer newSkeletonBuffer(boolean int8) {
        int[] s = sizes();
        return newBuffer(s[0] * s[1] * s[2], int8);
    }

    /** A buffer for the log-Mel tensor. */
    public ByteBuffer newAudioBuffer(boolean int8) {
        int[] s = sizes();
        return newBuffer(s[3] * s[4] * s[5], int8);
    }

    private static ByteBuffer newBuffer(int elements, boolean int8) {
        return ByteBuffer.allocateDirect(int8 ? elements : 4 * elements).order(ByteOrder.nativeOrder());
    }

    /**
     * Draws a recording; returns HAR_NOTE_*.
     *
     * @param joints [frames][bodies][joints][3] in metres, camera space, y up
     * @param confidence [frames][bodies][joints] in [0, 1]
     * @param layout "ntu25" or "msr20"; null for the specification's
     */
    public int heatmaps(
            float[] joints, float[] confidence, int frames, int bodies, String layout, boolean int8, ByteBuffer out) {
        return heatmaps(open(), joints, confidence, frames, bodies, layout, int8, out);
    }

    /** The log-Mel tensor of a mono waveform at the specification's rate. */
    public void logMel(float[] waveform, int sampleRateHz, boolean int8, ByteBuffer out) {
        logMel(open(), waveform, sampleRateHz, int8, out);
    }

    /** A stream of frames and samples; har.h defines its window. */
    public Stream newStream(int windowFrames, int bodies, String layout) {
        return new Stream(createStream(open(), windowFrames, bodies, layout));
    }

    @Override
    public void close() {
        destroy(handle);
        handle = 0;
    }

    private long open() {
        if (handle == 0) throw new IllegalStateException("this PocketHar is closed");
        return handle;
    }

    /** Frames and samples that arrive piece by piece. */
    public static final class Stream implements AutoCloseable {
        private long stream;

        private Stream(long stream) {
            this.stream = stream;
        }

        /** One frame: joints [bodies][joints][3], confidence [bodies][joints]; index above the last one's. */
        public void pushFrame(long index, float[] joints, float[] confidence, int bodies) {
            PocketHar.pushFrame(open(), index, joints, confidence, bodies);
        }

        /** The first `count` samples of the array. */
        public void pushAudio(float[] samples, int count, int sampleRateHz) {
            PocketHar.pushAudio(open(), samples, count, sampleRateHz);
        }

        /** The heatmaps of the window; returns HAR_NOTE_*. */
        public int heatmaps(boolean int8, ByteBuffer out) {
            return streamHeatmaps(open(), int8, out);
        }

        /** The log-Mel tensor of the window. */
        public void logMel(boolean int8, ByteBuffer out) {
            streamLogMel(open(), int8, out);
        }

        /** Forgets all frames and samples. */
        public void reset() {
            PocketHar.reset(open());
        }

        @Override
        public void close() {
            destroyStream(stream);
            stream = 0;
        }

        private long open() {
            if (stream == 0) throw new IllegalStateException("this Stream is closed");
            return stream;
        }
    }

    private static native long create(byte[] manifest);
    private static native void destroy(long handle);
    private static native int[] sizes(long handle);
    private static native int heatmaps(
            long handle, float[] joints, float[] confidence, int frames, int bodies, String layout, boolean int8,
            ByteBuffer out);
    private static native void logMel(long handle, float[] waveform, int sampleRateHz, boolean int8, ByteBuffer out);
    private static native long createStream(long handle, int windowFrames, int bodies, String layout);
    private static native void destroyStream(long stream);
    private static native void pushFrame(long stream, long index, float[] joints, float[] confidence, int bodies);
    private static native void pushAudio(long stream, float[] samples, int count, int sampleRateHz);
    private static native int streamHeatmaps(long stream, boolean int8, ByteBuffer out);
    private static native void streamLogMel(long stream, boolean int8, ByteBuffer out);
    private static native void reset(long stream);
}
