import java.io.IOException;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.FloatBuffer;
import java.nio.file.Files;
import java.nio.file.Path;
import org.pocket_har.PocketHar;

/** Runs a recording through the JNI layer on a desktop: the files are those of tests/golden.cpp. */
public final class PocketHarCheck {
    private static float[] read(Path path) throws IOException {
        FloatBuffer floats = ByteBuffer.wrap(Files.readAllBytes(path)).order(ByteOrder.nativeOrder()).asFloatBuffer();
        float[] values = new float[floats.remaining()];
        floats.get(values);
        return values;
    }

    private static void write(Path path, ByteBuffer buffer) throws IOException {
        byte[] bytes = new byte[buffer.capacity()];
        buffer.rewind();
        buffer.get(bytes);
        Files.write(path, bytes);
    }

    private static void refused(String name, Runnable call) {
        try {
            call.run();
        } catch (IllegalArgumentException | IllegalStateException error) {
            System.out.println(name + ": " + error.getMessage());
            return;
        }
        throw new AssertionError(name + " was not refused");
    }

    public static void main(String[] arguments) throws IOException {
        Path folder = Path.of(arguments[0]);
        int frames = Integer.parseInt(arguments[1]);
        int bodies = Integer.parseInt(arguments[2]);
        String layout = arguments[3];
        float[] joints = read(folder.resolve("joints.bin"));
        float[] confidence = read(folder.resolve("confidence.bin"));
        float[] waveform = read(folder.resolve("waveform.bin"));

        PocketHar har = new PocketHar(Files.readString(folder.resolve("manifest.json")));
        int rate = har.sizes()[7];
        ByteBuffer heatmaps = har.newSkeletonBuffer(false);
        ByteBuffer heatmapsInt8 = har.newSkeletonBuffer(true);
        ByteBuffer logMel = har.newAudioBuffer(false);
        ByteBuffer logMelInt8 = har.newAudioBuffer(true);
        har.heatmaps(joints, confidence, frames, bodies, layout, true, heatmapsInt8);
        har.logMel(waveform, rate, true, logMelInt8);
        write(folder.resolve("heatmaps_int8.bin"), heatmapsInt8);
        write(folder.resolve("logmel_int8.bin"), logMelInt8);
        System.out.println("notes: " + har.heatmaps(joints, confidence, frames, bodies, layout, false, heatmaps));
        har.logMel(waveform, rate, false, logMel);
        write(folder.resolve("heatmaps.bin"), heatmaps);
        write(folder.resolve("logmel.bin"), logMel);

        PocketHar.Stream stream = har.newStream(frames, bodies, layout);
        int perFrame = confidence.length / frames;
        for (int t = 0; t < frames; t++) {
            float[] positions = java.util.Arrays.copyOfRange(joints, 3 * perFrame * t, 3 * perFrame * (t + 1));
            float[] confidences = java.util.Arrays.copyOfRange(confidence, perFrame * t, perFrame * (t + 1));
            stream.pushFrame(t, positions, confidences, bodies);
        }
        stream.pushAudio(waveform, waveform.length, rate);
        stream.heatmaps(false, heatmaps);
        stream.logMel(false, logMel);
        write(folder.resolve("stream_heatmaps.bin"), heatmaps);
        write(folder.resolve("stream_logmel.bin"), logMel);

        refused("manifest", () -> new PocketHar("{}"));
        refused("short joints", () -> har.heatmaps(new float[3], confidence, frames, bodies, layout, false, heatmaps));
        refused("unknown layout", () -> har.heatmaps(joints, confidence, frames, bodies, "kinect", false, heatmaps));
        refused("heap buffer", () -> har.logMel(waveform, rate, false, ByteBuffer.allocate(logMel.capacity())));
        refused("small buffer", () -> har.logMel(waveform, rate, false, ByteBuffer.allocateDirect(8)));
        refused("other rate", () -> har.logMel(waveform, 8000, false, logMel));
        refused("old index", () -> stream.pushFrame(0, joints, confidence, bodies));
        refused("short frame", () -> stream.pushFrame(frames, new float[2], confidence, bodies));
        refused("short sound", () -> stream.pushAudio(waveform, waveform.length + 1, rate));
        stream.reset();
        refused("empty window", () -> stream.heatmaps(false, heatmaps));
        stream.close();
        har.close();
        har.close();
        refused("closed", () -> har.newSkeletonBuffer(false));
        refused("closed stream", () -> stream.heatmaps(false, heatmaps));
    }
}
