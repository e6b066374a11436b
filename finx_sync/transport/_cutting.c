/* Cuts the one shape of frame that matters for speed, in C: `cut_plain`, which cutting.py documents.

   It is given whatever a peer sends, so every length is compared with what is there before a byte is touched. No Python
   code runs in here, and nothing is kept from one call to the next. */

#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <stdint.h>
#include <string.h>

#define REVISION 1 /* must equal the one in cutting.py, which accepts no other */
#define FIN_TEXT 0x81
#define LENGTH_16 126 /* the length is in the next two bytes */
#define TEXT_BITS UINT64_C(0x8080808080808080)

static int is_ascii(const unsigned char *text, Py_ssize_t length)
{
    uint64_t seen = 0, word;
    Py_ssize_t at = 0;
    for (; length - at >= 8; at += 8) {
        memcpy(&word, text + at, 8);
        seen |= word;
    }
    for (; at < length; at++)
        seen |= (uint64_t)text[at];
    return (seen & TEXT_BITS) == 0;
}

/* 1: valid; 0: not; -1: out of memory. */
static int is_utf8(const unsigned char *text, Py_ssize_t length)
{
    if (is_ascii(text, length))
        return 1;
    PyObject *decoded = PyUnicode_DecodeUTF8((const char *)text, length, NULL);
    if (decoded != NULL) {
        Py_DECREF(decoded);
        return 1;
    }
    if (!PyErr_ExceptionMatches(PyExc_UnicodeDecodeError))
        return -1;
    PyErr_Clear();
    return 0;
}

/* Appends what can be cut; returns where it stopped, or -1 with an exception. */
static Py_ssize_t cut(const unsigned char *data, Py_ssize_t start, Py_ssize_t end, Py_ssize_t limit, int check,
                      PyObject *payloads)
{
    while (end - start >= 4 && data[start] == FIN_TEXT) {
        Py_ssize_t begin = start + 2, length = data[start + 1];
        if (length == LENGTH_16) {
            begin = start + 4;
            length = (Py_ssize_t)data[start + 2] << 8 | data[start + 3];
        }
        else if (length > LENGTH_16) /* 64 bits of length, or a mask */
            break;
        if (length > end - begin || length > limit)
            break;
        if (check) {
            int valid = is_utf8(data + begin, length);
            if (valid < 0)
                return -1;
            if (!valid)
                break;
        }
        PyObject *payload = PyBytes_FromStringAndSize((const char *)data + begin, length);
        if (payload == NULL)
            return -1;
        int failed = PyList_Append(payloads, payload);
        Py_DECREF(payload);
        if (failed)
            return -1;
        start = begin + length;
    }
    return start;
}

static PyObject *cut_plain(PyObject *module, PyObject *const *args, Py_ssize_t count)
{
    if (count != 6 || !PyList_CheckExact(args[5])) {
        PyErr_SetString(PyExc_TypeError, "cut_plain(source, start, end, limit, check_utf8, payloads: list)");
        return NULL;
    }
    Py_ssize_t start = PyLong_AsSsize_t(args[1]), end = PyLong_AsSsize_t(args[2]), limit = PyLong_AsSsize_t(args[3]);
    int check = PyObject_IsTrue(args[4]);
    if (PyErr_Occurred())
        return NULL;
    Py_buffer source;
    if (PyObject_GetBuffer(args[0], &source, PyBUF_SIMPLE) < 0)
        return NULL;
    Py_ssize_t stop = -1;
    if (start < 0 || end < start || source.len < end)
        PyErr_SetString(PyExc_ValueError, "0 <= start <= end <= len(source) does not hold");
    else
        stop = cut(source.buf, start, end, limit, check, args[5]);
    PyBuffer_Release(&source);
    return stop < 0 ? NULL : PyLong_FromSsize_t(stop);
}

static PyMethodDef methods[] = {
    {"cut_plain", (PyCFunction)(void (*)(void))cut_plain, METH_FASTCALL, "See finx_sync.transport.cutting."},
    {NULL, NULL, 0, NULL},
};

static int add_revision(PyObject *module)
{
    return PyModule_AddIntConstant(module, "REVISION", REVISION);
}

static PyModuleDef_Slot slots[] = {
    {Py_mod_exec, add_revision},
#ifdef Py_mod_multiple_interpreters
    {Py_mod_multiple_interpreters, Py_MOD_PER_INTERPRETER_GIL_SUPPORTED},
#endif
#ifdef Py_mod_gil
    {Py_mod_gil, Py_MOD_GIL_NOT_USED},
#endif
    {0, NULL},
};

static struct PyModuleDef definition = {
    .m_base = PyModuleDef_HEAD_INIT,
    .m_name = "finx_sync.transport._cutting",
    .m_doc = "See finx_sync.transport.cutting.",
    .m_methods = methods,
    .m_slots = slots,
};

PyMODINIT_FUNC PyInit__cutting(void)
{
    return PyModuleDef_Init(&definition);
}
