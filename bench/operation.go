package main

import (
	"net/http"
	"net/url"
	"strings"
)

// operation names the S3 operation that a path-style request asks for.
func operation(r *http.Request) string {
	q := r.URL.Query()
	_, key, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, "/"), "/")
	copied := r.Header.Get("X-Amz-Copy-Source") != ""
	switch r.Method {
	case http.MethodGet:
		switch {
		case key == "" && (q.Has("list-type") || len(q) == 0 || q.Has("prefix") || q.Has("delimiter")):
			return "List"
		case key == "":
			return "bucket " + firstKey(q)
		}
		return "Get"
	case http.MethodHead:
		if key == "" {
			return "HeadBucket"
		}
		return "Head"
	case http.MethodPut:
		switch {
		case key == "":
			return "bucket " + firstKey(q)
		case q.Has("partNumber") && copied:
			return "UploadPartCopy"
		case q.Has("partNumber"):
			return "UploadPart"
		case copied:
			return "Copy"
		}
		return "Put"
	case http.MethodPost:
		switch {
		case q.Has("delete"):
			return "DeleteObjects"
		case q.Has("uploads"):
			return "CreateMultipartUpload"
		case q.Has("uploadId"):
			return "CompleteMultipartUpload"
		}
	case http.MethodDelete:
		if q.Has("uploadId") {
			return "AbortMultipartUpload"
		}
		return "Delete"
	}
	return r.Method
}

// firstKey returns a name for a request that is known by its query alone.
func firstKey(q url.Values) string {
	first := ""
	for k := range q {
		if first == "" || k < first {
			first = k
		}
	}
	return first
}
