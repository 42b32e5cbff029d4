package s3

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/credentials/ec2rolecreds"
	"github.com/aws/aws-sdk-go-v2/feature/ec2/imds"
	"github.com/aws/aws-sdk-go-v2/service/s3"
)

const (
	dialTimeout = 5 * time.Second
	// imdsTimeout bounds the wait for the credentials of an EC2 instance,
	// which elsewhere nobody answers.
	imdsTimeout = time.Second
	// bufferSize is that of the connections: the default of 4 KiB costs a
	// system call for each.
	bufferSize = 128 << 10
)

// newClient returns the SDK's client for c, and an HTTP client whose connections
// are new ones. Requests of both go through g.
func newClient(c *Config, g *gate) (*s3.Client, aws.HTTPClient, error) {
	httpClient, fresh := newHTTPClient(c, false), newHTTPClient(c, true)
	load := []func(*config.LoadOptions) error{
		config.WithHTTPClient(httpClient),
		config.WithEC2RoleCredentialOptions(func(o *ec2rolecreds.Options) {
			o.Client = imds.New(imds.Options{
				HTTPClient: &http.Client{Timeout: imdsTimeout},
				Retryer:    aws.NopRetryer{},
				Endpoint:   os.Getenv("AWS_EC2_METADATA_SERVICE_ENDPOINT"),
			})
		}),
	}
	if c.Region != "" {
		load = append(load, config.WithRegion(c.Region))
	} else {
		load = append(load, config.WithDefaultRegion(defaultRegion))
	}
	if c.Profile != "" {
		load = append(load, config.WithSharedConfigProfile(c.Profile))
	}
	switch {
	case c.Anonymous:
		load = append(load, config.WithCredentialsProvider(aws.AnonymousCredentials{}))
	case c.Credentials != nil:
		load = append(load, config.WithCredentialsProvider(c.Credentials))
	}
	ctx, cancel := context.WithTimeout(context.Background(), 3*imdsTimeout)
	defer cancel()
	cfg, err := config.LoadDefaultConfig(ctx, load...)
	if err != nil {
		var none config.SharedConfigProfileNotExistError
		if errors.As(err, &none) {
			return nil, nil, fmt.Errorf("there is no AWS profile %q: correct AWS_PROFILE or the profile option, or add it to ~/.aws/config", none.Profile)
		}
		return nil, nil, fmt.Errorf("AWS configuration: %s", oneLine(err.Error()))
	}
	api := s3.NewFromConfig(cfg, func(o *s3.Options) {
		setOptions(o, c)
		o.HTTPClient = gated{o.HTTPClient, g}
	})
	// The environment's endpoint is as public as a route's: it is in messages,
	// logs and the names of rooms.
	if text := endpointProblem(aws.ToString(api.Options().BaseEndpoint)); text != "" {
		return nil, nil, fmt.Errorf("the endpoint of AWS_ENDPOINT_URL_S3, AWS_ENDPOINT_URL or ~/.aws/config: %s", text)
	}
	if !c.Anonymous {
		if err := haveCredentials(ctx, c, cfg.Credentials, api); err != nil {
			return nil, nil, err
		}
	}
	return api, gated{fresh, g}, nil
}

// setOptions makes the client's options from the configuration; o has the
// environment's by then.
func setOptions(o *s3.Options, c *Config) {
	if c.Endpoint != "" {
		o.BaseEndpoint = &c.Endpoint
	}
	custom := !isAWS(*o)
	o.UsePathStyle = custom
	if c.PathStyle != nil {
		o.UsePathStyle = *c.PathStyle
	}
	if custom {
		// What AWS checks by default breaks ranged reads and parts elsewhere.
		o.RequestChecksumCalculation = aws.RequestChecksumCalculationWhenRequired
		o.ResponseChecksumValidation = aws.ResponseChecksumValidationWhenRequired
	}
	o.DisableLogOutputChecksumValidationSkipped = true
	o.APIOptions = append(o.APIOptions, fastListing)
	if o.Credentials != nil && !c.Anonymous {
		o.Credentials = markedCredentials{o.Credentials}
	}
}

// haveCredentials fails if the default chain came to its end without any: its
// last link is the EC2 instance's role.
func haveCredentials(ctx context.Context, c *Config, p aws.CredentialsProvider, api *s3.Client) error {
	if c.Credentials != nil || !aws.IsCredentialsProvider(p, (*ec2rolecreds.Provider)(nil)) {
		return nil
	}
	if isAWS(api.Options()) {
		if _, err := p.Retrieve(ctx); err == nil {
			return nil
		}
	}
	return errors.New("no AWS credentials found: " + remedy)
}

// markedCredentials marks a provider's errors, so that they are told from the
// endpoint's.
type markedCredentials struct{ aws.CredentialsProvider }

func (m markedCredentials) Retrieve(ctx context.Context) (aws.Credentials, error) {
	c, err := m.CredentialsProvider.Retrieve(ctx)
	if err != nil {
		err = &credentialsError{err}
	}
	return c, err
}

// newHTTPClient returns an HTTP client for many parallel requests to one host;
// fresh says that each is to have a connection of its own. The SDK makes transports
// of its own of this one, for a certificate bundle for instance, so there is nobody
// whose idle connections could be closed: they end by themselves.
func newHTTPClient(c *Config, fresh bool) aws.HTTPClient {
	d := &net.Dialer{Timeout: dialTimeout, KeepAlive: 30 * time.Second}
	return awshttp.NewBuildableClient().WithTransportOptions(func(t *http.Transport) {
		t.DialContext = func(ctx context.Context, network, addr string) (net.Conn, error) {
			conn, err := d.DialContext(ctx, network, addr)
			if err != nil {
				return nil, err
			}
			return &stallConn{Conn: conn, limit: c.RequestTimeout}, nil
		}
		t.MaxIdleConns = 0
		t.MaxIdleConnsPerHost = 256
		// A connection that is idle stands still, too: its end is read for all the time.
		// So it goes after RequestTimeout (stallConn), if that is less.
		t.IdleConnTimeout = 60 * time.Second
		t.ResponseHeaderTimeout = c.RequestTimeout
		t.TLSHandshakeTimeout = dialTimeout
		t.ReadBufferSize = bufferSize
		t.WriteBufferSize = bufferSize
		t.DisableCompression = true
		t.DisableKeepAlives = fresh
		t.ForceAttemptHTTP2 = false // parallel parts want connections of their own
	})
}

// stallConn is a connection that fails when it stands still: neither the
// SDK nor net/http bounds the time between two bytes of a body.
type stallConn struct {
	net.Conn
	limit time.Duration
}

func (c *stallConn) Read(p []byte) (int, error) {
	if err := c.SetReadDeadline(time.Now().Add(c.limit)); err != nil {
		return 0, err
	}
	return c.Conn.Read(p)
}

// Write also moves the read deadline: while a large body goes out, the reader
// waits for an answer that isn't due yet.
func (c *stallConn) Write(p []byte) (int, error) {
	now := time.Now()
	if err := c.SetWriteDeadline(now.Add(c.limit)); err != nil {
		return 0, err
	}
	n, err := c.Conn.Write(p)
	if err == nil {
		err = c.SetReadDeadline(time.Now().Add(c.limit))
	}
	return n, err
}
