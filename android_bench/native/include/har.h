/* pocket-har: preprocessing of a skeleton and a waveform for the recogniser. A plain C interface.
 *
 * Results equal those of the Python package `preprocess` for the same specification, which is read from the
 * manifest.json of an exported artifact. No function throws, prints, or ends the process.
 *
 * A handle (har, har_stream) belongs to one thread at a time; two handles share no mutable state. A stream keeps a
 * copy of its specification: its har may be destroyed before it.
 *
 * Where a function returns a status other than HAR_OK, har_error / har_stream_error holds the message and the contents
 * of `out` are undefined.
 */
#ifndef HAR_H
#define HAR_H

#include <stddef.h>
#include <stdint.h>

#if defined(_WIN32)
#define HAR_PUBLIC
#else
#define HAR_PUBLIC __attribute__((visibility("default")))
#endif

#ifdef __cplusplus
extern "C" {
#endif

typedef enum {
  HAR_OK = 0,
  HAR_WRONG_USE = 2, /* an argument makes no sense: a null pointer, a wrong size, int8 of a float model */
  HAR_BAD_DATA = 4,  /* the manifest, the recording or the waveform is not valid */
  HAR_NO_MEMORY = 5,
  HAR_DEFECT = 70 /* a defect of this library */
} har_status;

typedef enum {
  HAR_FLOAT32 = 0,
  HAR_INT8 = 1 /* with the scale and zero point of the manifest's input: round half to even, saturate */
} har_type;

/* Bit mask of anomalies in a recording. */
enum {
  HAR_NOTE_INVALID_JOINTS = 1, /* joints that are not finite, or beyond 1e6 m, were not drawn */
  HAR_NOTE_NO_BODY = 2,        /* no body has the least mean confidence: the heatmaps are all zero */
  HAR_NOTE_NO_PELVIS = 4,      /* no pelvis of the main body: the mean of its first visible joints is the origin */
  HAR_NOTE_NO_TORSO = 8        /* the main body's torso cannot be measured: default_torso_m is used */
};

typedef struct har har;
typedef struct har_stream har_stream;

typedef struct {
  int32_t skeleton[3];       /* rows, columns, channels of the heatmaps; row-major, channels last */
  int32_t audio[3];          /* bands, frames, 3 of the log-Mel tensor */
  int32_t skeleton_is_int8;  /* 1 when the model's input is int8, so that HAR_INT8 is allowed */
  int32_t audio_is_int8;
  int32_t joints;            /* joints of a body in the specification's layout */
  int32_t sample_rate_hz;
  int64_t audio_samples;     /* length of the waveform that fills the tensor */
} har_sizes;

/* Reads the text of a manifest.json (UTF-8, `length` bytes, at most 4 MiB).
 *
 * error: receives a message of at most error_bytes - 1 bytes when the result is not HAR_OK; may be NULL.
 * HAR_BAD_DATA: not JSON, another version, a field missing, unknown, of a wrong type or out of range; n_fft is no power
 * of two (NumPy's transform accepts any even length); a tensor would exceed 2^26 numbers.
 */
HAR_PUBLIC har_status har_create(const char *manifest, size_t length, har **handle, char *error, size_t error_bytes);
HAR_PUBLIC void har_destroy(har *handle);

/* Why the last call with this handle failed; never NULL, valid until the next call. */
HAR_PUBLIC const char *har_error(const har *handle);

HAR_PUBLIC har_status har_get_sizes(const har *handle, har_sizes *sizes);

/* Labels in the order of the logits; NULL for an index that does not exist. */
HAR_PUBLIC int32_t har_label_count(const har *handle);
HAR_PUBLIC const char *har_label_name(const har *handle, int32_t index);

/* Joints of a body in the layout, NULL for the specification's; 0 for an unknown one. */
HAR_PUBLIC int32_t har_layout_joints(const har *handle, const char *layout);

/* "avx2" or "baseline": the kernels that this machine runs. */
HAR_PUBLIC const char *har_kernels(void);

/* Skeleton to heatmaps.
 *
 * joints:     [frames][bodies][J][3] metres, camera space, y up. Joints that are not finite are not drawn.
 * confidence: [frames][bodies][J] in [0, 1].
 * layout:     "ntu25" or "msr20"; NULL for the specification's.
 * out:        [rows][columns][channels] of `type`, out_bytes long exactly.
 * notes:      receives HAR_NOTE_*; may be NULL.
 *
 * HAR_BAD_DATA: no frame, a confidence outside [0, 1], an unknown layout.
 */
HAR_PUBLIC har_status har_heatmaps(har *handle, const float *joints, const float *confidence, int64_t frames,
                                   int32_t bodies, const char *layout, har_type type, void *out, size_t out_bytes,
                                   uint32_t *notes);

/* Waveform to log-Mel with deltas.
 *
 * waveform: [samples] mono, nominally in [-1, 1]; the first audio_samples are used, zeros follow where there are fewer.
 * sample_rate_hz: must be the specification's; nothing is resampled here.
 * out:      [bands][frames][3] of `type`, out_bytes long exactly.
 *
 * HAR_BAD_DATA: no sample, another rate, a sample that is not finite, power that overflows float32.
 */
HAR_PUBLIC har_status har_logmel(har *handle, const float *waveform, int64_t samples, int32_t sample_rate_hz,
                                 har_type type, void *out, size_t out_bytes);

/* A stream: frames and samples arrive piece by piece; the tensors of the latest window are available at any time.
 *
 * har_stream_heatmaps equals har_heatmaps of the frames in the window: those with an index above
 * last index - window_frames. har_stream_logmel equals har_logmel of the samples in the window: with n
 * samples pushed, the window ends at n rounded down to a multiple of hop_samples and is audio_samples long, or begins
 * with the first sample while there are fewer. Both are bit-identical.
 *
 * All memory is allocated at creation; no other function of a stream allocates unless it fails.
 */
HAR_PUBLIC har_status har_stream_create(const har *handle, int32_t window_frames, int32_t bodies, const char *layout,
                                        har_stream **stream, char *error, size_t error_bytes);
HAR_PUBLIC void har_stream_destroy(har_stream *stream);
HAR_PUBLIC const char *har_stream_error(const har_stream *stream);

/* Joints of a body in the stream's layout. */
HAR_PUBLIC int32_t har_stream_joints(const har_stream *stream);

/* Forgets all frames and samples. */
HAR_PUBLIC har_status har_stream_reset(har_stream *stream);

/* One frame: joints [bodies][J][3], confidence [bodies][J], bodies at most the number at creation (the others are
 * absent). index: position in time at the sensor's rate, above the previous index; gaps are lost frames.
 * A refused frame changes nothing. */
HAR_PUBLIC har_status har_stream_push_frame(har_stream *stream, int64_t index, const float *joints,
                                            const float *confidence, int32_t bodies);

/* Any number of samples. A piece with a sample that is not finite is refused and changes nothing. */
HAR_PUBLIC har_status har_stream_push_audio(har_stream *stream, const float *samples, int64_t count,
                                            int32_t sample_rate_hz);

typedef struct {
  int64_t frames;       /* in the window */
  int64_t first_index;  /* index of its first and last frame; -1 when there is none */
  int64_t last_index;
  int64_t first_sample; /* the window holds the samples first_sample <= i < end_sample, counted from the first pushed */
  int64_t end_sample;
} har_stream_window;

HAR_PUBLIC har_status har_stream_get_window(const har_stream *stream, har_stream_window *window);

/* The tensors of the window. HAR_BAD_DATA: the window is empty; the sound's power overflows. */
HAR_PUBLIC har_status har_stream_heatmaps(har_stream *stream, har_type type, void *out, size_t out_bytes,
                                          uint32_t *notes);
HAR_PUBLIC har_status har_stream_logmel(har_stream *stream, har_type type, void *out, size_t out_bytes);

#ifdef __cplusplus
}
#endif

#endif
