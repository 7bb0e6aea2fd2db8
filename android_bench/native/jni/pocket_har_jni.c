/* org.pocket_har.PocketHar: checks lengths, passes memory on, turns a failed status into an exception. */
#include <jni.h>
#include <stdint.h>

#include "har.h"

#define METHOD(result, name) JNIEXPORT result JNICALL Java_org_pocket_1har_PocketHar_##name

static void throw_error(JNIEnv *env, const char *message) {
  jclass kind = (*env)->FindClass(env, "java/lang/IllegalArgumentException");
  if (kind) (*env)->ThrowNew(env, kind, message);
}

/* The floats of an array that has at least `needed`; NULL with an exception pending otherwise. */
static jfloat *floats_of(JNIEnv *env, jfloatArray array, int64_t needed, const char *message) {
  if (!array || needed < 0 || (*env)->GetArrayLength(env, array) < needed) {
    throw_error(env, message);
    return NULL;
  }
  return (*env)->GetFloatArrayElements(env, array, NULL);
}

static void release(JNIEnv *env, jfloatArray array, jfloat *floats) {
  if (floats) (*env)->ReleaseFloatArrayElements(env, array, floats, JNI_ABORT); /* they were only read */
}

/* Memory and size of a direct buffer; NULL with an exception pending for another. */
static void *memory_of(JNIEnv *env, jobject buffer, size_t *bytes) {
  void *memory = buffer ? (*env)->GetDirectBufferAddress(env, buffer) : NULL;
  if (!memory) {
    throw_error(env, "out is not a direct byte buffer; use ByteBuffer.allocateDirect");
    return NULL;
  }
  *bytes = (size_t)(*env)->GetDirectBufferCapacity(env, buffer);
  return memory;
}

static har *handle_of(jlong handle) { return (har *)(intptr_t)handle; }
static har_stream *stream_of(jlong stream) { return (har_stream *)(intptr_t)stream; }
static har_type type_of(jboolean int8) { return int8 ? HAR_INT8 : HAR_FLOAT32; }

METHOD(jlong, create)(JNIEnv *env, jclass type, jbyteArray manifest) {
  char error[512] = "";
  har *handle = NULL;
  jbyte *text = (*env)->GetByteArrayElements(env, manifest, NULL);
  if (!text) return 0;
  har_status status = har_create((const char *)text, (size_t)(*env)->GetArrayLength(env, manifest), &handle, error,
                                 sizeof error);
  (*env)->ReleaseByteArrayElements(env, manifest, text, JNI_ABORT);
  if (status != HAR_OK) throw_error(env, error);
  return (jlong)(intptr_t)handle;
}

METHOD(void, destroy)(JNIEnv *env, jclass type, jlong handle) {
  har_destroy(handle_of(handle));
}

METHOD(jintArray, sizes)(JNIEnv *env, jclass type, jlong handle) {
  har_sizes sizes;
  har_get_sizes(handle_of(handle), &sizes);
  const jint values[] = {sizes.skeleton[0], sizes.skeleton[1], sizes.skeleton[2], sizes.audio[0],
                         sizes.audio[1],    sizes.audio[2],    sizes.joints,      sizes.sample_rate_hz,
                         (jint)sizes.audio_samples, sizes.skeleton_is_int8, sizes.audio_is_int8};
  const jsize count = (jsize)(sizeof values / sizeof *values);
  jintArray result = (*env)->NewIntArray(env, count);
  if (result) (*env)->SetIntArrayRegion(env, result, 0, count, values);
  return result;
}

METHOD(jint, heatmaps)(JNIEnv *env, jclass type, jlong handle, jfloatArray joints, jfloatArray confidence, jint frames,
                       jint bodies, jstring layout, jboolean int8, jobject out) {
  uint32_t notes = 0;
  size_t bytes;
  void *memory = memory_of(env, out, &bytes);
  if (!memory) return 0;
  const char *name = layout ? (*env)->GetStringUTFChars(env, layout, NULL) : NULL;
  const int64_t people = frames < 0 || bodies < 0 || bodies > 1024 ? -1 : (int64_t)frames * bodies;
  const int64_t count = people * har_layout_joints(handle_of(handle), name);
  jfloat *positions = floats_of(env, joints, 3 * count, "joints is shorter than frames, bodies and layout require");
  jfloat *confidences = NULL;
  if (positions) {
    confidences = floats_of(env, confidence, count, "confidence is shorter than frames, bodies and layout require");
  }
  har_status status = HAR_OK;
  if (confidences) {
    status = har_heatmaps(handle_of(handle), positions, confidences, frames, bodies, name, type_of(int8), memory,
                          bytes, &notes);
  }
  release(env, joints, positions);
  release(env, confidence, confidences);
  if (name) (*env)->ReleaseStringUTFChars(env, layout, name);
  if (status != HAR_OK) throw_error(env, har_error(handle_of(handle)));
  return (jint)notes;
}

METHOD(void, logMel)(JNIEnv *env, jclass type, jlong handle, jfloatArray waveform, jint rate, jboolean int8,
                     jobject out) {
  size_t bytes;
  void *memory = memory_of(env, out, &bytes);
  if (!memory) return;
  jfloat *samples = floats_of(env, waveform, 0, "waveform is null");
  if (!samples) return;
  har_status status = har_logmel(handle_of(handle), samples, (*env)->GetArrayLength(env, waveform), rate, type_of(int8),
                                 memory, bytes);
  release(env, waveform, samples);
  if (status != HAR_OK) throw_error(env, har_error(handle_of(handle)));
}

METHOD(jlong, createStream)(JNIEnv *env, jclass type, jlong handle, jint window_frames, jint bodies, jstring layout) {
  char error[512] = "";
  har_stream *stream = NULL;
  const char *name = layout ? (*env)->GetStringUTFChars(env, layout, NULL) : NULL;
  har_status status = har_stream_create(handle_of(handle), window_frames, bodies, name, &stream, error, sizeof error);
  if (name) (*env)->ReleaseStringUTFChars(env, layout, name);
  if (status != HAR_OK) throw_error(env, error);
  return (jlong)(intptr_t)stream;
}

METHOD(void, destroyStream)(JNIEnv *env, jclass type, jlong stream) {
  har_stream_destroy(stream_of(stream));
}

METHOD(void, pushFrame)(JNIEnv *env, jclass type, jlong stream, jlong index, jfloatArray joints, jfloatArray confidence,
                        jint bodies) {
  const int64_t count = (int64_t)bodies * har_stream_joints(stream_of(stream));
  jfloat *positions = floats_of(env, joints, 3 * count, "joints is shorter than bodies and layout require");
  jfloat *confidences = NULL;
  if (positions) confidences = floats_of(env, confidence, count, "confidence is shorter than bodies and layout require");
  har_status status = HAR_OK;
  if (confidences) status = har_stream_push_frame(stream_of(stream), index, positions, confidences, bodies);
  release(env, joints, positions);
  release(env, confidence, confidences);
  if (status != HAR_OK) throw_error(env, har_stream_error(stream_of(stream)));
}

METHOD(void, pushAudio)(JNIEnv *env, jclass type, jlong stream, jfloatArray samples, jint count, jint rate) {
  jfloat *floats = floats_of(env, samples, count, "samples is shorter than count");
  if (!floats) return;
  har_status status = har_stream_push_audio(stream_of(stream), floats, count, rate);
  release(env, samples, floats);
  if (status != HAR_OK) throw_error(env, har_stream_error(stream_of(stream)));
}

METHOD(jint, streamHeatmaps)(JNIEnv *env, jclass type, jlong stream, jboolean int8, jobject out) {
  size_t bytes;
  uint32_t notes = 0;
  void *memory = memory_of(env, out, &bytes);
  if (memory && har_stream_heatmaps(stream_of(stream), type_of(int8), memory, bytes, &notes) != HAR_OK) {
    throw_error(env, har_stream_error(stream_of(stream)));
  }
  return (jint)notes;
}

METHOD(void, streamLogMel)(JNIEnv *env, jclass type, jlong stream, jboolean int8, jobject out) {
  size_t bytes;
  void *memory = memory_of(env, out, &bytes);
  if (memory && har_stream_logmel(stream_of(stream), type_of(int8), memory, bytes) != HAR_OK) {
    throw_error(env, har_stream_error(stream_of(stream)));
  }
}

METHOD(void, reset)(JNIEnv *env, jclass type, jlong stream) {
  har_stream_reset(stream_of(stream));
}
