package semantics

import (
	"go/ast"
	"go/doc/comment"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// TestSemanticsIsTested compares SEMANTICS.md with the tests of this package:
// each paragraph that ends in the name of a test is that test's doc comment,
// and every test but this one has its paragraph.
func TestSemanticsIsTested(t *testing.T) {
	page, err := os.ReadFile(filepath.Join("..", "..", "..", "SEMANTICS.md"))
	if err != nil {
		t.Fatal(err)
	}
	tests := docComments(t)
	delete(tests, "TestSemanticsIsTested")
	written := map[string]bool{}
	for _, par := range strings.Split(string(page), "\n\n") {
		m := testOf.FindStringSubmatch(par)
		if m == nil {
			if strings.Contains(par, "Test: ") {
				t.Errorf("SEMANTICS.md: a test is named in the middle of a paragraph:\n%s", par)
			}
			continue
		}
		name := m[2]
		doc, there := tests[name]
		switch text := oneLine(m[1]); {
		case !there:
			t.Errorf("SEMANTICS.md names %s, which does not exist", name)
		case written[name]:
			t.Errorf("SEMANTICS.md names %s twice", name)
		case text != doc:
			t.Errorf("SEMANTICS.md and %s say different things:\n\t%s\n\t%s", name, text, doc)
		}
		written[name] = true
	}
	for name := range tests {
		if !written[name] {
			t.Errorf("SEMANTICS.md has no paragraph of %s", name)
		}
	}
}

// testOf finds what a paragraph promises and the test that it ends with.
var testOf = regexp.MustCompile(`(?s)^(.*)\nTest: ` + "`(Test[A-Za-z]+)`" + `\s*$`)

func oneLine(s string) string { return strings.Join(strings.Fields(s), " ") }

// docComments returns the doc comments of this package's tests.
func docComments(t *testing.T) map[string]string {
	t.Helper()
	files, err := filepath.Glob("*_test.go")
	if err != nil {
		t.Fatal(err)
	}
	docs := map[string]string{}
	for _, name := range files {
		f, err := parser.ParseFile(token.NewFileSet(), name, nil, parser.ParseComments)
		if err != nil {
			t.Fatal(err)
		}
		for _, d := range f.Decls {
			fn, ok := d.(*ast.FuncDecl)
			if !ok || !strings.HasPrefix(fn.Name.Name, "Test") || fn.Name.Name == "TestMain" {
				continue
			}
			// Parsed and printed as a comment, so that no formatting gets lost.
			var pr comment.Printer
			docs[fn.Name.Name] = oneLine(string(pr.Text(new(comment.Parser).Parse(fn.Doc.Text()))))
		}
	}
	return docs
}
