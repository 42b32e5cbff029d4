package s3

import (
	"bytes"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"reflect"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/smithy-go/middleware"
)

// answering is an HTTP client that always gets the same answer.
type answering []byte

func (a answering) Do(*http.Request) (*http.Response, error) {
	return &http.Response{StatusCode: 200, Header: http.Header{}, Body: io.NopCloser(bytes.NewReader(a)), ContentLength: int64(len(a))}, nil
}

// listings returns what the SDK makes of an answer, by itself and with our reader.
func listings(tb testing.TB, body []byte) (own, fast *s3.ListObjectsV2Output, ownErr, fastErr error) {
	tb.Helper()
	ask := func(options ...func(*middleware.Stack) error) (*s3.ListObjectsV2Output, error) {
		c := s3.New(s3.Options{
			Region: "us-east-1", Credentials: aws.AnonymousCredentials{}, HTTPClient: answering(body),
			Retryer: aws.NopRetryer{}, APIOptions: options,
		})
		out, err := c.ListObjectsV2(tb.Context(), &s3.ListObjectsV2Input{Bucket: aws.String("bucket")})
		if err == nil {
			out.ResultMetadata = middleware.Metadata{} // times
		}
		return out, err
	}
	own, ownErr = ask()
	fast, fastErr = ask(fastListing)
	return own, fast, ownErr, fastErr
}

// same fails unless the SDK's answer is that with our reader. It returns whether that was
// taken the short way.
func same(tb testing.TB, body []byte) bool {
	tb.Helper()
	own, fast, ownErr, fastErr := listings(tb, body)
	if (ownErr == nil) != (fastErr == nil) {
		tb.Errorf("%.2000q: the SDK says %v, we say %v", body, ownErr, fastErr)
	} else if ownErr != nil && ownErr.Error() != fastErr.Error() {
		tb.Errorf("%.2000q: the SDK says %v, we say %v", body, ownErr, fastErr)
	}
	if ownErr == nil && !reflect.DeepEqual(own, fast) {
		tb.Errorf("%.2000q: the SDK reads\n%s\nwe read\n%s", body, shown(own), shown(fast))
	}
	_, ok := parseListing(body)
	return ok
}

func shown(out *s3.ListObjectsV2Output) string {
	var b strings.Builder
	v := reflect.ValueOf(out).Elem()
	for i := range v.NumField() {
		if f := v.Field(i); f.Kind() == reflect.Pointer && !f.IsNil() {
			fmt.Fprintf(&b, "%s=%#v ", v.Type().Field(i).Name, f.Elem())
		} else if v.Type().Field(i).IsExported() {
			fmt.Fprintf(&b, "%s=%#v ", v.Type().Field(i).Name, f.Interface())
		}
	}
	for _, o := range out.Contents {
		fmt.Fprintf(&b, "\n%q %q %d %v", aws.ToString(o.Key), aws.ToString(o.ETag), aws.ToInt64(o.Size), aws.ToTime(o.LastModified))
	}
	return b.String()
}

const listingHead = `<?xml version="1.0" encoding="UTF-8"?>
<ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/">`

// plain are answers that are read the short way.
var plain = map[string]string{
	"empty": listingHead + `</ListBucketResult>`,
	"aws": listingHead + `<Name>bucket</Name><Prefix>a%2F</Prefix><NextContinuationToken>1/x+y==</NextContinuationToken><KeyCount>2</KeyCount>` +
		`<MaxKeys>1000</MaxKeys><Delimiter>%2F</Delimiter><EncodingType>url</EncodingType><IsTruncated>true</IsTruncated>` +
		`<Contents><Key>a%2Fb</Key><LastModified>2026-11-29T10:00:00.000Z</LastModified><ETag>&quot;d41d8cd98f00b204e9800998ecf8427e&quot;</ETag>` +
		`<ChecksumAlgorithm>CRC64NVME</ChecksumAlgorithm><ChecksumType>FULL_OBJECT</ChecksumType><Size>4096</Size><StorageClass>STANDARD</StorageClass></Contents>` +
		`<CommonPrefixes><Prefix>a%2Fc%2F</Prefix></CommonPrefixes></ListBucketResult>`,
	"indented": "<ListBucketResult>\n  <Contents>\n    <Key>a &#38; &#x62;&lt;&gt;&apos;&#xA;&#xD;&#9; </Key>\n\t<Size>1</Size>\n <Owner><ID>i</ID><DisplayName>n</DisplayName></Owner>\n  </Contents>\n</ListBucketResult>\n",
	"no text":  listingHead + `<Prefix></Prefix><Contents><Key></Key><ETag></ETag></Contents></ListBucketResult>`,
}

// odd are answers that are left to the SDK.
var odd = map[string]string{
	"nothing":        "",
	"no xml":         "internal error",
	"cut":            plain["aws"][:300],
	"comment":        listingHead + `<!-- x --></ListBucketResult>`,
	"cdata":          listingHead + `<Contents><Key><![CDATA[a<b]]></Key></Contents></ListBucketResult>`,
	"self closing":   listingHead + `<Prefix/></ListBucketResult>`,
	"attribute":      listingHead + `<Prefix a="b">c</Prefix></ListBucketResult>`,
	"unknown":        listingHead + `<Speed>high</Speed></ListBucketResult>`,
	"other case":     listingHead + `<contents><key>a</key></contents></ListBucketResult>`,
	"restore":        listingHead + `<Contents><Key>a</Key><RestoreStatus><IsRestoreInProgress>true</IsRestoreInProgress></RestoreStatus></Contents></ListBucketResult>`,
	"bad size":       listingHead + `<Contents><Key>a</Key><Size>many</Size></Contents></ListBucketResult>`,
	"bad time":       listingHead + `<Contents><Key>a</Key><LastModified>yesterday</LastModified></Contents></ListBucketResult>`,
	"bad bool":       listingHead + `<IsTruncated>perhaps</IsTruncated></ListBucketResult>`,
	"control":        listingHead + "<Contents><Key>a\x01</Key></Contents></ListBucketResult>",
	"return":         listingHead + "<Contents><Key>a\r\nb</Key></Contents></ListBucketResult>",
	"control as ref": listingHead + `<Contents><Key>a&#1;</Key></Contents></ListBucketResult>`,
	"wide reference": listingHead + `<Contents><Key>a&#228;</Key></Contents></ListBucketResult>`,
	"unknown entity": listingHead + `<Contents><Key>a&auml;</Key></Contents></ListBucketResult>`,
	"lone ampersand": listingHead + `<Contents><Key>a & b</Key></Contents></ListBucketResult>`,
	"no utf-8":       listingHead + "<Contents><Key>a\xff</Key></Contents></ListBucketResult>",
	"wrong end":      listingHead + `<Contents><Key>a</Contents></Key></ListBucketResult>`,
	"more behind":    listingHead + `</ListBucketResult><more>`,
	"another root":   `<Error><Code>SlowDown</Code></Error>`,
	"prefix":         `<s:ListBucketResult xmlns:s="x"><s:Prefix>a</s:Prefix></s:ListBucketResult>`,
	"single quotes":  `<ListBucketResult xmlns='x'><Prefix>a</Prefix></ListBucketResult>`,
}

// What is read the short way is what the SDK reads, and all else is left to it.
func TestListingXML(t *testing.T) {
	for name, body := range plain {
		t.Run(name, func(t *testing.T) {
			if !same(t, []byte(body)) {
				t.Error("not read the short way")
			}
		})
	}
	for name, body := range odd {
		t.Run(name, func(t *testing.T) {
			if same(t, []byte(body)) {
				t.Error("read the short way")
			}
		})
	}
	r := rand.New(rand.NewPCG(1, 2))
	n := 0
	const some = "<>&;/?!\"= \n\t#x1aZ\x00\xff]"
	for range 3000 { // an answer with a byte changed, or cut
		b := []byte(plain["aws"])
		if r.IntN(10) == 0 {
			b = b[:r.IntN(len(b))]
		} else {
			b[r.IntN(len(b))] = some[r.IntN(len(some))]
		}
		if same(t, b) {
			n++
		}
	}
	t.Logf("%d of 3000 changed answers were read the short way", n)
}

func FuzzListingXML(f *testing.F) {
	for _, all := range []map[string]string{plain, odd} {
		for _, body := range all {
			f.Add([]byte(body))
		}
	}
	f.Fuzz(func(t *testing.T, body []byte) { same(t, body) })
}

func page(n int) []byte {
	var b bytes.Buffer
	b.WriteString(listingHead + `<Name>bucket</Name><KeyCount>1000</KeyCount><EncodingType>url</EncodingType><IsTruncated>false</IsTruncated>`)
	for i := range n {
		fmt.Fprintf(&b, `<Contents><Key>some%%2Fdirectory%%2Ffile-%06d</Key><LastModified>2026-11-29T10:00:00.000Z</LastModified>`+
			`<ETag>&quot;d41d8cd98f00b204e9800998ecf8427e&quot;</ETag><Size>4096</Size><StorageClass>STANDARD</StorageClass></Contents>`, i)
	}
	b.WriteString(`</ListBucketResult>`)
	return b.Bytes()
}

// BenchmarkListing asks for a page of 1000 keys from a server that takes no time.
func BenchmarkListing(b *testing.B) {
	body := answering(page(1000))
	for name, options := range map[string][]func(*middleware.Stack) error{"SDK": nil, "short": {fastListing}} {
		b.Run(name, func(b *testing.B) {
			c := s3.New(s3.Options{Region: "us-east-1", Credentials: aws.AnonymousCredentials{}, HTTPClient: body, APIOptions: options})
			b.ReportAllocs()
			for b.Loop() {
				if out, err := c.ListObjectsV2(b.Context(), &s3.ListObjectsV2Input{Bucket: aws.String("bucket")}); err != nil || len(out.Contents) != 1000 {
					b.Fatal(err)
				}
			}
		})
	}
}
