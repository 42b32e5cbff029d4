package cli

// protocolCase is one call of the agent protocol: its name and arguments are
// those of the tool. The cases run one after the other on the same tree, and
// must come out the same whichever way in they take.
type protocolCase struct {
	op   string
	in   map[string]any // "$version PATH" is the version that is there then
	want string         // the result as JSON, without times, modes and versions
	fail string         // or the error, as a tool shows it
}

type toolArgs = map[string]any

// protocolCases are done in a tree with a host directory at / and a bucket at
// /data, both empty, but for a file in the host directory that /data hides.
var protocolCases = []protocolCase{
	{"write", toolArgs{"path": "/a/b/one.txt", "content": "one\ntwo\nthree\n"}, `{"path":"/a/b/one.txt","size":14,"type":"file"}`, ""},
	{"write", toolArgs{"path": "/data/x/dos.txt", "content": "eins\r\nzwei\r\n"}, `{"path":"/data/x/dos.txt","size":12,"type":"file"}`, ""},
	{"write", toolArgs{"path": "/data/.hidden/key", "content": "two keys\n"}, `{"path":"/data/.hidden/key","size":9,"type":"file"}`, ""},
	{"write", toolArgs{"path": "/a/b/one.txt", "content": "", "create_only": true}, "", "exists: /a/b/one.txt: is there already"},
	{"write", toolArgs{"path": "/data/x/dos.txt", "content": "", "create_only": true}, "", "exists: /data/x/dos.txt: is there already"},
	{"write", toolArgs{"path": "/data/x/dos.txt", "content": "", "if_version": "1"}, "", "changed: /data/x/dos.txt: another version is there than the one that was asked for (read it again and repeat the change on what is there now)"},
	{"write", toolArgs{"path": "/a/b", "content": "x"}, "", "is-directory: /a/b: is a directory"},
	{"write", toolArgs{"path": "/a/", "content": "x"}, "", "is-directory: /a: is a directory"},
	{"write", toolArgs{"path": "/data/v", "content": "1"}, `{"path":"/data/v","size":1,"type":"file"}`, ""},
	{"write", toolArgs{"path": "/data/v", "content": "22", "if_version": "$version /data/v"}, `{"path":"/data/v","size":2,"type":"file"}`, ""},

	{"ls", toolArgs{"path": "/"}, `{"items":[{"path":"/a/","size":0,"type":"dir"},{"path":"/data/","size":0,"type":"dir"}]}`, ""},
	{"ls", toolArgs{"path": "/data"}, `{"items":[{"path":"/data/.hidden/","size":0,"type":"dir"},{"path":"/data/v","size":2,"type":"file"},{"path":"/data/x/","size":0,"type":"dir"}]}`, ""},
	{"ls", toolArgs{"path": "/none"}, "", "not-found: /none: does not exist"},
	{"stat", toolArgs{"paths": []any{"/data/v", "/none", "/a"}}, `{"outcomes":[` +
		`{"path":"/data/v","result":{"path":"/data/v","size":2,"type":"file"}},` +
		`{"failure":{"error":"/none: does not exist","kind":"not-found","path":"/none"},"path":"/none"},` +
		`{"path":"/a","result":{"path":"/a/","size":0,"type":"dir"}}]}`, ""},

	{"read", toolArgs{"path": "/a/b/one.txt", "offset": 1, "limit": 1}, `{"content":"two\n","count":1,"encoding":"text","more":true,"next":2,"offset":1,"path":"/a/b/one.txt","size":14,"total":3,"type":"file","unit":"lines"}`, ""},
	{"read", toolArgs{"path": "/data/x/dos.txt"}, `{"content":"eins\r\nzwei\r\n","count":2,"encoding":"text","more":false,"offset":0,"path":"/data/x/dos.txt","size":12,"total":2,"type":"file","unit":"lines"}`, ""},
	{"read", toolArgs{"path": "/data"}, "", "is-directory: /data: is a directory"},
	{"read", toolArgs{"path": "/none"}, "", "not-found: /none: does not exist"},
	{"read", toolArgs{"path": "/../../etc/passwd"}, "", "not-found: /etc/passwd: does not exist"},
	{"write", toolArgs{"path": "/data/bin", "content": "AAECAwQ=", "encoding": "base64"}, `{"path":"/data/bin","size":5,"type":"file"}`, ""},
	{"read", toolArgs{"path": "/data/bin", "offset": 1, "limit": 3}, `{"content":"AQID","count":3,"encoding":"base64","more":true,"next":4,"offset":1,"path":"/data/bin","size":5,"total":5,"type":"file","unit":"bytes"}`, ""},
	{"read", toolArgs{"path": "/data/bin", "binary": "refuse"}, "", "binary: /data/bin: is not a text (read it as base64)"},

	{"edit", toolArgs{"path": "/a/b/one.txt", "old": "two", "new": "2"}, `{"lines":[2],"path":"/a/b/one.txt","replaced":1,"size":12,"type":"file"}`, ""},
	{"edit", toolArgs{"path": "/a/b/one.txt", "old": "e\n", "new": "E\n"}, "", `ambiguous: /a/b/one.txt: the text to replace is there 2 times: line 1: "one"; line 3: "three" (give more of the text around it, or replace all)`},
	{"edit", toolArgs{"path": "/a/b/one.txt", "old": "none", "new": "x"}, "", "no-match: /a/b/one.txt: the text to replace is not in the file (read the file again and copy the text from there, white space included)"},
	{"edit", toolArgs{"path": "/a/b/one.txt", "old": "e\n", "new": "E\n", "replace_all": true, "dry_run": true},
		`{"diff":"--- a/a/b/one.txt\n+++ b/a/b/one.txt\n@@ -1,3 +1,3 @@\n-one\n+onE\n 2\n-three\n+threE\n","lines":[1,3],"path":"/a/b/one.txt","replaced":2,"size":12,"type":"file"}`, ""},
	{"edit", toolArgs{"path": "/data/x/dos.txt", "old": "eins\nzwei", "new": "1\n2"}, `{"lines":[1],"path":"/data/x/dos.txt","replaced":1,"size":6,"type":"file"}`, ""},
	{"edit", toolArgs{"path": "/data/x/dos.txt", "old": "1", "new": "one", "if_version": "old"}, "", "changed: /data/x/dos.txt: another version is there than the one that was asked for (read it again and repeat the change on what is there now)"},
	{"read", toolArgs{"path": "/data/x/dos.txt", "numbers": true}, `{"content":"     1\t1\r\n     2\t2\r\n","count":2,"encoding":"text","more":false,"offset":0,"path":"/data/x/dos.txt","size":6,"total":2,"type":"file","unit":"lines"}`, ""},

	{"glob", toolArgs{"pattern": "*.txt"}, `{"items":[{"path":"/a/b/one.txt","size":12,"type":"file"},{"path":"/data/x/dos.txt","size":6,"type":"file"}]}`, ""},
	{"glob", toolArgs{"pattern": "{data,a}/*/*.txt"}, `{"items":[{"path":"/a/b/one.txt","size":12,"type":"file"},{"path":"/data/x/dos.txt","size":6,"type":"file"}]}`, ""},
	{"glob", toolArgs{"pattern": "/data/**/k*", "path": "/a"}, `{"items":[]}`, ""},
	{"glob", toolArgs{"pattern": "/data/**/k*", "hidden": true}, `{"items":[{"path":"/data/.hidden/key","size":9,"type":"file"}]}`, ""},
	{"glob", toolArgs{"pattern": "shadowed"}, `{"items":[]}`, ""},
	{"glob", toolArgs{"pattern": "**", "limit": 1}, `{"items":[{"path":"/a/","size":0,"type":"dir"}],"truncated":true}`, ""},
	{"glob", toolArgs{"pattern": "[", "path": "/"}, "", `invalid: "[" is not a pattern (it knows * ? [a-z] {a,b} and ** for any number of directories)`},

	{"grep", toolArgs{"pattern": "^(2|TWO)", "ignore_case": true}, `{"found":[{"line":2,"path":"/a/b/one.txt","text":"2"},{"line":1,"path":"/data/.hidden/key","text":"two keys"},{"line":1,"path":"/data/v","text":"22"},{"line":2,"path":"/data/x/dos.txt","text":"2"}]}`, ""},
	{"grep", toolArgs{"pattern": "2", "path": "/", "glob": "/data/x/*", "before": 1}, `{"found":[{"context":true,"line":1,"path":"/data/x/dos.txt","text":"1"},{"line":2,"path":"/data/x/dos.txt","text":"2"}]}`, ""},
	{"grep", toolArgs{"pattern": "2", "output": "count"}, `{"found":[{"count":1,"path":"/a/b/one.txt"},{"count":1,"path":"/data/v"},{"count":1,"path":"/data/x/dos.txt"}]}`, ""},
	{"grep", toolArgs{"pattern": "2", "output": "files", "limit": 1}, `{"found":[{"path":"/a/b/one.txt"}],"truncated":true}`, ""},
	{"grep", toolArgs{"pattern": "1|2", "fixed": true}, `{"found":[]}`, ""},
	{"grep", toolArgs{"pattern": "shadow"}, `{"found":[]}`, ""},
	{"grep", toolArgs{"pattern": "("}, "", "invalid: error parsing regexp: missing closing ): `(` (the syntax is RE2: https://golang.org/s/re2syntax; fixed (-F) takes the pattern as a text)"},
	{"grep", toolArgs{"pattern": "x", "path": "/none"}, "", "not-found: /none: does not exist"},

	{"mkdir", toolArgs{"path": "/data/new/dir"}, `{"created":true,"path":"/data/new/dir/"}`, ""},
	{"mkdir", toolArgs{"path": "/data/new/dir"}, `{"created":false,"path":"/data/new/dir/"}`, ""},
	{"mkdir", toolArgs{"path": "/data/v"}, "", "exists: /data/v: is there already"},
	{"mv", toolArgs{"from": "/data/v", "to": "/data/moved/v"}, `{"from":"/data/v","to":"/data/moved/v"}`, ""},
	{"mv", toolArgs{"from": "/data/moved/v", "to": "/a/b/one.txt"}, "", "exists: /a/b/one.txt: is there already"},
	{"mv", toolArgs{"from": "/data/moved/v", "to": "/a/b/one.txt", "replace": true}, `{"from":"/data/moved/v","to":"/a/b/one.txt"}`, ""},
	{"mv", toolArgs{"from": "/a/b", "to": "/data/b"}, `{"from":"/a/b/","to":"/data/b/"}`, ""},
	{"mv", toolArgs{"from": "/data/b", "to": "/data/c"}, `{"from":"/data/b/","to":"/data/c/"}`, ""},
	{"mv", toolArgs{"from": "/data", "to": "/elsewhere"}, "", "busy: /data: the route /data begins there: in use as the root of a route (a route or a store begins there; change the configuration to remove it)"},
	{"read", toolArgs{"path": "/data/c/one.txt"}, `{"content":"22","count":1,"encoding":"text","more":false,"offset":0,"path":"/data/c/one.txt","size":2,"total":1,"type":"file","unit":"lines"}`, ""},

	{"rm", toolArgs{"path": "/data/x"}, "", "not-empty: /data/x: the directory is not empty (remove it recursively (-r) to remove what is in it, too)"},
	{"rm", toolArgs{"path": "/data/x", "recursive": true}, `{"path":"/data/x/","removed":2}`, ""},
	{"rm", toolArgs{"path": "/data/bin", "if_version": "old"}, "", "changed: /data/bin: another version is there than the one that was asked for (read it again and repeat the change on what is there now)"},
	{"rm", toolArgs{"path": "/data/bin", "if_version": "$version /data/bin"}, `{"path":"/data/bin","removed":1}`, ""},
	{"rm", toolArgs{"path": "/data", "recursive": true}, "", "busy: /data: the route /data begins there: in use as the root of a route (a route or a store begins there; change the configuration to remove it)"},
	{"rm", toolArgs{"path": "/none"}, "", "not-found: /none: does not exist"},
	{"glob", toolArgs{"pattern": "**"}, `{"items":[{"path":"/a/","size":0,"type":"dir"},{"path":"/data/","size":0,"type":"dir"},{"path":"/data/c/","size":0,"type":"dir"},{"path":"/data/c/one.txt","size":2,"type":"file"},` +
		`{"path":"/data/moved/","size":0,"type":"dir"},{"path":"/data/new/","size":0,"type":"dir"},{"path":"/data/new/dir/","size":0,"type":"dir"}]}`, ""},
}
